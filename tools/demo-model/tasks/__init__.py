"""What is taught. Each module makes single turns (`Turn`) or whole conversations (`Conversation`)."""
