"""Models and recipes of other projects, turned into regzoo's."""
