"""The parts that tests are built with. README.md beside this file says which one to take."""
