-- The embedded store, version 3: what a report asks of a log's strain without reading its result.

-- How long the check's thread was ready to run and got no CPU, in microseconds (see src/logs/strain.rs); null: not known.
ALTER TABLE log ADD COLUMN starved_us INTEGER;
