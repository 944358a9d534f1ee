"""The life of SageMaker endpoints: created, updated, rolled back, deleted.

Models, endpoint configurations and tags are moto's; what moto has of an endpoint is its name and
its tags. States, containers and answers are here.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from werkzeug.datastructures import Headers

from scripts.rehearsal.answers import AwsError, invalid
from scripts.rehearsal.containers import Container, ContainerError, UnhealthyError
from scripts.rehearsal.data_capture import Body, Recorder, make_event
from scripts.rehearsal.endpoint import (
    ACCOUNT,
    Endpoint,
    choose,
    resource_name,
    retained,
    summary,
)
from scripts.rehearsal.processes import Processes

REASON_LENGTH = 1024
# https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html and general reference
PAYLOAD_BYTES = 6 * 1024**2
SERVERLESS_PAYLOAD_BYTES = 4 * 1024**2
IN_PROGRESS = {"Creating", "Updating", "Deleting"}
HANDED_THROUGH = ("Accept", "X-Amzn-SageMaker-Custom-Attributes")

# Makes a boto3 client for a service and a region; its calls go past the faults.
Client = Callable[[str, str], Any]


class Endpoints:
    """All endpoints, and the threads that deploy to them."""

    def __init__(
        self, client: Client, processes: Processes, logs: Path, health_seconds: float
    ) -> None:
        """Begin without any.

        Args:
            client: Makes boto3 clients of the local AWS.
            processes: Starts and ends the containers.
            logs: Folder for what containers print.
            health_seconds: How long a container may take to pass its health check, unless the
                variant says otherwise.
        """
        self._client, self._processes = client, processes
        self._logs, self._health_seconds = logs, health_seconds
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._lock = threading.Lock()
        self.recorder = Recorder(self._put_object)

    def find(self, region: str, name: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            AwsError: There is none of this name.
        """
        try:
            return self._endpoints[region, name]
        except KeyError:
            arn = resource_name(region, "endpoint", name)
            raise invalid(f'Could not find endpoint "{arn}".') from None

    def create(self, region: str, wanted: Mapping[str, Any]) -> Endpoint:
        """Create an endpoint, and begin to deploy to it.

        Raises:
            AwsError: It exists, or what it needs does not.
        """
        name = wanted["EndpointName"]
        config = self._config(region, wanted["EndpointConfigName"])
        self._check_deployment(region, wanted.get("DeploymentConfig"))
        endpoint = Endpoint(name, region, config, wanted.get("DeploymentConfig"))
        with self._lock:
            if (region, name) in self._endpoints:
                raise invalid(f'Cannot create already existing endpoint "{endpoint.arn}".')
            self._endpoints[region, name] = endpoint
        endpoint.pending = config
        self._in_background(self._deploy, endpoint)
        return endpoint

    def update(self, region: str, wanted: Mapping[str, Any]) -> Endpoint:
        """Begin to move an endpoint to another configuration.

        Raises:
            AwsError: It is not in service, or what it needs does not exist.
        """
        endpoint = self.find(region, wanted["EndpointName"])
        config = self._config(region, wanted["EndpointConfigName"])
        self._check_deployment(region, wanted.get("DeploymentConfig"))
        with endpoint.lock:
            self._check_idle(endpoint)
            if endpoint.status == "Failed":
                raise invalid(f'Cannot update endpoint "{endpoint.arn}" in status Failed.')
            # https://github.com/hashicorp/terraform-provider-aws/issues/40048
            self._config(region, endpoint.config["EndpointConfigName"])
            if wanted.get("RetainAllVariantProperties"):
                excluded = wanted.get("ExcludeRetainedVariantProperties", ())
                kept = {"DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig"}
                kept -= {item["VariantPropertyType"] for item in excluded}
                config = retained(config, endpoint, kept)
            if not wanted.get("RetainDeploymentConfig"):
                endpoint.deployment = wanted.get("DeploymentConfig")
            endpoint.status, endpoint.reason = "Updating", None
            endpoint.pending, endpoint.pending_since = config, time.time()
            endpoint.modified = time.time()
        self._in_background(self._deploy, endpoint)
        return endpoint

    def weigh(self, region: str, wanted: Mapping[str, Any]) -> Endpoint:
        """Change the weights and instance counts of variants.

        Raises:
            AwsError: The endpoint is not in service, or has no such variant.
        """
        endpoint = self.find(region, wanted["EndpointName"])
        with endpoint.lock:
            self._check_idle(endpoint)
            variants = {variant["VariantName"]: variant for variant in endpoint.variants}
            for item in wanted["DesiredWeightsAndCapacities"]:
                name = item["VariantName"]
                if name not in variants:
                    raise invalid(
                        f'The variant name(s) "{name}" is/are not present within endpoint'
                        f' configuration "{endpoint.config["EndpointConfigName"]}".'
                    )
                for key in ("Weight", "InstanceCount"):
                    if (value := item.get(f"Desired{key}")) is not None:
                        variants[name] |= {f"Desired{key}": value, f"Current{key}": value}
            endpoint.modified = time.time()
        return endpoint

    def delete(self, region: str, name: str) -> None:
        """Begin to delete an endpoint.

        Raises:
            AwsError: There is none, or it is being created or updated.
        """
        endpoint = self.find(region, name)
        with endpoint.lock:
            self._check_idle(endpoint)
            endpoint.status = "Deleting"
        self._in_background(self._remove, endpoint)

    def roll_back(self, name: str) -> None:
        """Let the running or next update end as a rollback by an alarm does.

        Raises:
            KeyError: There is no endpoint of this name in any region.
        """
        found = [endpoint for (_, own), endpoint in self._endpoints.items() if own == name]
        if not found:
            raise KeyError(name)
        for endpoint in found:
            endpoint.roll_back = True

    def invoke(
        self, region: str, name: str, body: Body, headers: Headers
    ) -> tuple[Body, dict[str, str]]:
        """Let an endpoint answer a request.

        Returns:
            The answer, and its headers.

        Raises:
            AwsError: The endpoint or variant is not there, or the model refused.
        """
        endpoint = self._endpoints.get((region, name))
        if endpoint is None or not endpoint.containers or endpoint.status == "Deleting":
            raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        with endpoint.lock:
            config = endpoint.config
            variant = choose(endpoint, headers.get("X-Amzn-SageMaker-Target-Variant"))
            container = endpoint.containers[variant["VariantName"]]
            container.take()
        limit = PAYLOAD_BYTES
        if "CurrentServerlessConfig" in variant:
            limit = SERVERLESS_PAYLOAD_BYTES
        try:
            if len(body.content) > limit:
                raise AwsError("413", f"HTTP content length exceeded {limit} bytes.", 413)
            passed = {key: headers[key] for key in HANDED_THROUGH if key in headers}
            answer, attributes = container.invoke(body, passed)
        except ContainerError as error:
            raise model_error(error, endpoint) from error
        finally:
            container.give_back()
        more = {"x-Amzn-Invoked-Production-Variant": container.variant}
        if attributes:
            more["X-Amzn-SageMaker-Custom-Attributes"] = attributes
        capture = config.get("DataCaptureConfig") or {}
        if event := make_event(capture, body, answer, headers):
            self.recorder.add(capture["DestinationS3Uri"], name, container.variant, event)
        return answer, more

    def close(self) -> None:
        """Write what was captured; the containers end with their processes."""
        self.recorder.close()

    def _check_idle(self, endpoint: Endpoint) -> None:
        if endpoint.status in IN_PROGRESS:
            raise invalid(f'Cannot update in-progress endpoint "{endpoint.arn}".')

    def _config(self, region: str, name: str) -> dict[str, Any]:
        client = self._client("sagemaker", region)
        try:
            return client.describe_endpoint_config(EndpointConfigName=name)
        except client.exceptions.ClientError as error:
            arn = resource_name(region, "endpoint-config", name)
            raise invalid(f'Could not find endpoint configuration "{arn}".') from error

    def _check_deployment(self, region: str, config: Mapping[str, Any] | None) -> None:
        config = config or {}
        routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        kind = routing.get("Type")
        for needs, size in (("CANARY", "CanarySize"), ("LINEAR", "LinearStepSize")):
            if (kind == needs) != (size in routing):
                raise invalid(f"{size} is required for, and only for, traffic routing {needs}.")
        alarms = {
            alarm["AlarmName"]
            for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        }
        if lacking := alarms - self._alarms(region, alarms).keys():
            raise invalid(f"Could not find CloudWatch alarms: {', '.join(sorted(lacking))}.")

    def _alarms(self, region: str, names: set[str]) -> dict[str, str]:
        if not names:
            return {}
        client = self._client("cloudwatch", region)
        found = client.describe_alarms(AlarmNames=sorted(names))
        return {
            alarm["AlarmName"]: alarm["StateValue"]
            for kind in ("MetricAlarms", "CompositeAlarms")
            for alarm in found.get(kind, ())
        }

    def _in_background(self, work: Callable[[Endpoint], None], endpoint: Endpoint) -> None:
        threading.Thread(target=work, args=(endpoint,), daemon=True).start()

    def _deploy(self, endpoint: Endpoint) -> None:
        """Start what the pending configuration asks for, and switch to it; or stay."""
        started: list[Container] = []
        assert endpoint.pending  # noqa: S101 - set by who starts this
        try:
            variants = endpoint.pending["ProductionVariants"]
            for variant in variants:
                container = self._start(endpoint, variant)
                started.append(container)
            for container, variant in zip(started, variants, strict=True):
                given = variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
                container.wait_until_healthy(given or self._health_seconds)
            self._check_alarms(endpoint)
        except Exception as error:  # noqa: BLE001 - whatever it is, no endpoint stays in Updating
            retiring = started
            with endpoint.lock:
                reason = str(error) if isinstance(error, UnhealthyError) else repr(error)
                endpoint.reason = reason[:REASON_LENGTH]
                endpoint.status = "InService" if endpoint.containers else "Failed"
                endpoint.pending, endpoint.modified = None, time.time()
        else:
            with endpoint.lock:
                retiring = list(endpoint.containers.values())
                endpoint.config = endpoint.pending
                endpoint.containers = {container.variant: container for container in started}
                endpoint.variants = [
                    summary(variant, container)
                    for variant, container in zip(
                        endpoint.config["ProductionVariants"], started, strict=True
                    )
                ]
                endpoint.status, endpoint.pending = "InService", None
                endpoint.modified = time.time()
        for container in retiring:
            container.retire()

    def _check_alarms(self, endpoint: Endpoint) -> None:
        rollback = (endpoint.deployment or {}).get("AutoRollbackConfiguration", {})
        names = {alarm["AlarmName"] for alarm in rollback.get("Alarms", ())}
        states = self._alarms(endpoint.region, names)
        ringing = sorted(name for name, state in states.items() if state == "ALARM")
        if not endpoint.containers or not (endpoint.roll_back or ringing):
            return
        endpoint.roll_back = False
        raise UnhealthyError(
            "The deployment was rolled back because of an alarm: "
            + (", ".join(ringing or sorted(names)) or "asked for by the rehearsal")
        )

    def _start(self, endpoint: Endpoint, variant: Mapping[str, Any]) -> Container:
        client = self._client("sagemaker", endpoint.region)
        try:
            model = client.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
        except client.exceptions.ClientError as error:
            arn = resource_name(endpoint.region, "model", variant["ModelName"])
            raise UnhealthyError(f'Could not find model "{arn}".') from error
        store = self._client("s3", endpoint.region)
        bucket, key = split_uri(model["ModelDataUrl"])
        try:
            archive = store.get_object(Bucket=bucket, Key=key)["Body"].read()
        except store.exceptions.ClientError as error:
            raise UnhealthyError(
                'Failed to download model data for container "container_1" from URL:'
                f' "{model["ModelDataUrl"]}". Please ensure that there is an object located at the'
                " URL and that the role passed to CreateModel has permissions to download it."
            ) from error
        log = self._logs / "endpoints" / f"{endpoint.name}-{variant['ModelName']}.log"
        container = Container(self._processes, variant["VariantName"], model, log)
        container.start(archive)
        return container

    def _remove(self, endpoint: Endpoint) -> None:
        for container in endpoint.containers.values():
            container.retire()
        client = self._client("sagemaker", endpoint.region)
        client.delete_endpoint(EndpointName=endpoint.name)
        with self._lock:
            del self._endpoints[endpoint.region, endpoint.name]

    def _put_object(self, bucket: str, key: str, content: bytes) -> None:
        client = self._client("s3", "us-east-1")
        # SageMaker loses what it cannot write, as when the bucket is gone
        with suppress(client.exceptions.ClientError):
            client.put_object(Bucket=bucket, Key=key, Body=content)


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of s3://bucket/key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def model_error(error: ContainerError, endpoint: Endpoint) -> AwsError:
    """Return what InvokeEndpoint answers where the model refuses or fails."""
    group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
    side = "client" if 400 <= error.status < 500 else "server"  # noqa: PLR2004 - HTTP
    region = endpoint.region
    return AwsError(
        "ModelError",
        f'Received {side} error ({error.status}) from primary with message "{error}". See'
        f" https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#logEventViewer:group={group} in account {ACCOUNT} for more information.",
        424,
        OriginalStatusCode=error.status,
        OriginalMessage=str(error),
        LogStreamArn=f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{group}",
    )
