"""What a daemon lets others see over local HTTP."""
