"""The HTTP client, under the name that the tests know it by."""

from devtools.client import Client, PromptFailed

__all__ = ["Client", "PromptFailed"]
