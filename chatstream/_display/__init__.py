"""Plain values → what a person looks at: lines of text, HTML, pictures. It knows no type of this library."""
