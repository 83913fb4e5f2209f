"""The messages of the wire: `.proto` files and the modules generated from them."""
