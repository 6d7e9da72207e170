"""What runs notebooks: folders of their results, steps with receipts, the driver behind make demo."""
