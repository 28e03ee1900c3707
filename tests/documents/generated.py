"""Every file of the documents that the code writes, as a whole or in part."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.documents import configuration, diagrams, errors, messages, python_api, queues

FILES: Mapping[Path, Callable[[], str]] = {
    configuration.PAGE: configuration.page,
    diagrams.TREE: diagrams.tree,
    diagrams.FLOW: diagrams.flow,
    errors.PAGE: errors.page,
    messages.PAGE: messages.page,
    python_api.PAGE: python_api.page,
    queues.PAGE: queues.page,
}
