"""Running a suite: plan, validity of records, worker."""
