"""What a reader sees of a registration: one picture, and one page that opens in any browser."""
