"""Where models come from: folders, the hub, .gguf files, the demo."""
