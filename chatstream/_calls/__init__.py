"""One call: it is sent until an answer begins, and read until that ends; hooks and logs are notified of each step."""
