"""Whether there are credentials for object stores, without showing or sending them."""

from botocore.session import get_session

# These ask a server for them.
ASKING = ("iam-role", "container-role", "sso", "assume-role-with-web-identity")


def source_of_credentials(profile: str | None = None) -> str | None:
    """Where this machine keeps credentials, such as "env"; None if nothing is at hand.

    Places that would have to be asked over the network are left out.
    """
    session = get_session()
    if profile is not None:
        session.set_config_variable("profile", profile)
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD not in ASKING and provider.load() is not None:
            return str(provider.METHOD)
    return None
