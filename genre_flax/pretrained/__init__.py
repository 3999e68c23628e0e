"""Reading published weights."""
