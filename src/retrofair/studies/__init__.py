"""Studies: many cells side by side, stored as they finish, and a page of what they show."""
