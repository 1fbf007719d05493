-- The embedded store, version 3: what a report asks of a log's strain without reading its result.

-- How long the machine kept the check's thread waiting, in microseconds (see src/logs/strain.rs); null: not known.
ALTER TABLE log ADD COLUMN held_us INTEGER;
