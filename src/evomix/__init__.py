"""evomix: evolve sequence-mixing code, train it at full length, and report what the evidence says."""
