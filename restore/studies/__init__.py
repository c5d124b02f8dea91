"""What is said about batch norm in restoration, put to the test: one function for each claim.

A claim (`claims`, registered in `claim.py`) asks for trained networks (`experiment.py`) and for measurements of them
(`measurements.py`); the runner (`runner.py`) trains what is not on record, in any number of sittings; `judgement.py`
judges what came out by the criteria that were stated before (`criteria.py`); `report.py` writes it down.
"""
