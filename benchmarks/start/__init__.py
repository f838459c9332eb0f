"""How the demo's starting weights are learned: attributes of synthetic people that no data set has."""
