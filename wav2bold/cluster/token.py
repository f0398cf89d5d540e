"""The token that lets in to a cluster: made once, kept in a file that nobody else reads, never told."""

import os
import secrets
from pathlib import Path

from ray._private.authentication.authentication_token_setup import _enable_token_auth

from wav2bold.errors import ClusterError
from wav2bold.places import refusal

MODE, FILE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"
"""Ray's variables: whether tokens are asked for and shown, the file that one is in, and the token itself."""


def token_file() -> Path:
    """Where Ray looks for the token of this user."""
    given = os.environ.get(FILE)
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def made_token() -> Path:
    """The file of the token; made with a new one, for its owner alone, where there is none.

    Ray's own `ray get-auth-token --generate` leaves it readable to others: that is mended.
    """
    path = token_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            path.chmod(0o600)
            return path
        with os.fdopen(opened, "w") as file:
            file.write(secrets.token_hex(32))  # 256 bits, as Ray's own
    except OSError as error:
        raise refusal(path, error) from None
    return path


def has_token() -> bool:
    """Whether this user has a token to show."""
    return bool(os.environ.get(TOKEN)) or token_file().is_file()


def refuse_without_token() -> None:
    """Raise ClusterError unless this user has a token."""
    if not has_token():
        raise ClusterError(
            f"there is no token at {token_file()}", "copy that file from the cluster's head, mode 0600"
        )


def show_token() -> None:
    """Let this process and its children show the token, if there is one and nothing says otherwise."""
    if MODE not in os.environ and has_token():
        _enable_token_auth()  # Ray read the environment when it was imported, and has no public way


def refused(where: str) -> ClusterError:
    """A cluster doesn't let us in."""
    if has_token() and os.environ.get(MODE, "token") == "token":
        return ClusterError(
            f"{where} refuses the token in {TOKEN if os.environ.get(TOKEN) else token_file()}",
            "copy ~/.ray/auth_token from the cluster's head, mode 0600",
        )
    return ClusterError(
        f"{where} asks for a token",
        "set RAY_AUTH_MODE=token and put the cluster's token into ~/.ray/auth_token",
    )
