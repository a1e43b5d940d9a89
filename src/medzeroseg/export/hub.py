"""Pushes an exported folder to the Hugging Face hub, when asked to and never otherwise."""

import re
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from medzeroseg.errors import MedZeroSegError

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


class HubError(MedZeroSegError):
    """The hub could not be reached or did not take the folder; the folder itself is whole."""


def require_repo_id(repo_id: str) -> None:
    """Refuse a name that is no repository, before any work is done.

    Raises:
        HubError: It is not OWNER/NAME.
    """
    if not _REPO.fullmatch(repo_id):
        raise HubError(f"push-to: {repo_id!r} is no repository; give OWNER/NAME")


def push(folder: Path, repo_id: str, *, public: bool = False) -> str:
    """Upload a folder as one commit.

    Args:
        folder: An exported model.
        repo_id: OWNER/NAME; made where it does not exist.
        public: Whether a new repository can be read by everybody. An existing one stays as it is.

    Returns:
        Address of the commit.

    Raises:
        HubError: No login, no right, or no network.
    """
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type="model", private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, repo_type="model", commit_message="Export by medzeroseg"
        )
    except LocalTokenNotFoundError as error:
        raise HubError(f"push-to: nobody is logged in to the hub: `hf auth login`. {folder} is whole") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise HubError(f"push-to: {repo_id}: {str(error).strip().splitlines()[0]}. {folder} is whole") from error
    return str(commit)
