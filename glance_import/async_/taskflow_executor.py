"""Where Glance has the executor; it is glance_import.imports.executor."""

from __future__ import annotations

from glance_import.imports import executor

TaskFlowExecutor = executor.TaskFlowExecutor
