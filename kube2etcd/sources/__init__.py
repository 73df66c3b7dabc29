"""One pure function for each kind of unit: the unit and its zone to records and reasons."""
