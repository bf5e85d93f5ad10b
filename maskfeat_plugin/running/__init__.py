"""What a training or test needs around mmengine's runner."""
