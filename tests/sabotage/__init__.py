"""Each invariant has a guard in the code, and a test that notices when the guard is gone."""
