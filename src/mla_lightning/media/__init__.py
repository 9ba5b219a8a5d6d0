"""Reading images, sound, video and text into arrays."""
