"""One call: sent until an answer begins, read until it ends, and who hears of its steps."""
