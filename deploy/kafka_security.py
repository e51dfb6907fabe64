"""Listeners with TLS and SASL, users and rights for the local Kafka: for the agent's tests."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crosyslog.errors import ToolMissingError

#: The listeners beside the plain one, whose users may do everything.
LISTENERS = ("SASL_PLAINTEXT", "SSL", "SASL_SSL")

_SETTINGS = """
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
listener.name.ssl.ssl.client.auth=required
"""

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_OAUTH = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";'
)


@dataclass(frozen=True)
class Secured:
    """What a secured local Kafka knows.

    Attributes:
        users: their passwords, for PLAIN and SCRAM; a name that is no user can come by its
            certificate or token.
    """

    users: Mapping[str, str] = field(default_factory=dict)

    def settings(self, folder: Path) -> str:
        """Lines of the broker's settings, once `make_certificates` was called."""
        named = " ".join(f'user_{name}="{secret}"' for name, secret in self.users.items())
        lines = [_SETTINGS.format(folder=folder)]
        for listener in ("sasl_plaintext", "sasl_ssl"):
            prefix = f"listener.name.{listener}"
            lines += [
                f"{prefix}.plain.sasl.jaas.config={_PLAIN.format(users=named)}",
                f"{prefix}.scram-sha-256.sasl.jaas.config={_SCRAM}",
                f"{prefix}.scram-sha-512.sasl.jaas.config={_SCRAM}",
                f"{prefix}.oauthbearer.sasl.jaas.config={_OAUTH}",
            ]
        return "\n".join(lines) + "\n"

    def format_options(self) -> list[str]:
        """Options of the storage's format that make the users of SCRAM."""
        return [
            f"--add-scram={mechanism}=[name={name},password={secret}]"
            for name, secret in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]


def make_certificates(folder: Path, clients: tuple[str, ...] = ("agent",)) -> None:
    """Makes `ca.pem`, `broker.pem`, and for each client `NAME.pem` and `NAME.key`.

    Raises:
        ToolMissingError: openssl is not there.
    """
    if (folder / "ca.pem").exists():
        return
    if shutil.which("openssl") is None:
        raise ToolMissingError("certificates for a test need openssl: install it")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    days = ("-days", "30")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test-ca", *days,
        "-keyout", "ca.key", "-out", "ca.pem",
    )  # fmt: skip
    for name in ("broker", *clients):
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", *days, "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip
    both = (folder / "broker.key").read_text() + (folder / "broker.pem").read_text()
    (folder / "broker.pem").write_text(both)
