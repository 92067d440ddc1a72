"""What happens when something breaks: roster under load and faults, and three ways to write an app, compared."""
