"""How fast it is, as ratios to named yardsticks: `./control bench`. Nothing in the tests depends on what is found."""
