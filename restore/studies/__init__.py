"""What is said about batch norm in restoration, put to the test: one function for each claim.

A claim (`claims`, registered in `claim.py`) asks for trained networks (`experiment.py`) and for measurements of them
(`measurements.py`); the laboratory trains what is not on record; the claim judges (`judgement.py`) what came out.
"""
