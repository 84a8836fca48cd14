"""The tabletop: two kitchen objects, two buttons, one gripper; four families of tasks. Begin with ``suite``."""
