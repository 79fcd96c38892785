"""hotpair keeps two Linux servers interchangeable (see docs/design.md)."""

VERSION = "0.1.0"
