"""Agents: one ADK application a folder; the modules beside the folders are what they share.

Importing it sets up the environment that their libraries expect.
"""

import logging
import os

from common import prepare_environment

# Without this line, Metaflow leaves this package behind when it sends a flow's code away.
METAFLOW_PACKAGE_POLICY = "include"

# Model calls of one run: a game of nine moves takes up to 55, an answer 3.
MAX_CALLS = 60

DEFAULTS = {
    # LiteLLM would download a table of prices when it is imported, and read .env itself
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    # ADK reads it wherever a run does not say it: `adk web` and `adk run` have no option for it
    "ADK_MAX_LLM_CALLS": str(MAX_CALLS),
    # common has read .env
    "ADK_DISABLE_LOAD_DOTENV": "1",
    # ADK warns of each part of it that may still change
    "ADK_SUPPRESS_EXPERIMENTAL_FEATURE_WARNINGS": "1",
    "ADK_SUPPRESS_GEMINI_LITELLM_WARNINGS": "1",
}

prepare_environment()
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
# hints for whoever writes agents, and traces of what is raised anyway; `adk web` has its own level
logging.getLogger("google_adk").setLevel(logging.CRITICAL)
