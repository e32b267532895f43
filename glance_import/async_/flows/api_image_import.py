"""Where Glance has the import flow; it is glance_import.imports.flow."""

from __future__ import annotations

from glance_import.imports import flow

get_flow = flow.get_flow
