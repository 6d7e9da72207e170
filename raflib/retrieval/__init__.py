"""How a bank finds and keeps its rows, from thousands to billions of them."""
