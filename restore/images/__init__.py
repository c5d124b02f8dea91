"""Pixels: reading, writing, color, MATLAB's resize, cropping. Images are (H, W, C) arrays, RGB or gray."""
