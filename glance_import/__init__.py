"""Interoperable image import for OpenStack: stage, import, active."""

import warnings

# Libraries below us import eventlet when it is there, and it says this once
# in every process. The server's use of it is a choice (glance_import.server).
warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
