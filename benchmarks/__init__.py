"""The harness: suites, cases, measurements, records and reports over `flows`."""
