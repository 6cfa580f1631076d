"""From positions to rows: the views of a stream, and how rows are rendered and put on the wire."""
