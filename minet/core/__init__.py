"""What a net is: layers and containers, how memory is bound to them, how x becomes y and dy dx."""
