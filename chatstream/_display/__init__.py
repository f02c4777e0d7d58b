"""Plain values → what a person looks at: lines of text, HTML, pictures; without the types of this library."""
