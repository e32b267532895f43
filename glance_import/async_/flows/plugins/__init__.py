"""The get_flow plugins: found by entry point, checked, put in order.

Files in this folder are plugins; ``load`` finds them, and any that other
distributions bring, by their entry points in ``glance.image_import.plugins``.
"""
