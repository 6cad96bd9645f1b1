"""How flat a minimum is: curvature, sharpness and loss landscapes of trained weights."""
