"""A SageMaker endpoint: its models, configurations, rollouts and the way back.

Model, configuration and the model's file in S3 share a name, which carries the version:
ENDPOINT-vVERSION-TIME. The endpoint's tags say what is live, and what was before it.
"""

import logging
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from inference import blueprint
from inference.aws import client, code, explained
from inference.backend import Release, Status
from inference.blueprint import EndpointSettings, Rollout
from inference.errors import BackendError
from inference.events import Folder
from inference.local import ARTIFACTS
from inference.predictor import Predictor

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

logger = logging.getLogger("rookery.endpoint")

PREVIOUS = "previous_configuration"
KEPT = 3
# Rows of training have no business on an endpoint.
LEFT_OUT = ("reference.parquet", "input_example.json", "serving_input_example.json")
CHANGING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
SERVING = {"InService", "Updating", "SystemUpdating", "RollingBack"}
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
TELL_SECONDS = 30.0
PATIENCE_SECONDS = 5400.0
LOG_LINES = 100


class Endpoint:
    """A SageMaker endpoint."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self.name = settings.target
        self._clients: dict[str, Any] = {}
        # not those of an endpoint whose name begins like this one's
        self._names = re.compile(rf"{re.escape(self.name)}-v(\d+)-\d{{14}}")

    def client(self, service: str) -> Any:  # noqa: ANN401 - a boto3 client
        """Return a client of an AWS service where the endpoint is."""
        if service not in self._clients:
            where = self.settings.region, self.settings.assume_role
            self._clients[service] = client(service, *where)
        return self._clients[service]

    @property
    def _sagemaker(self) -> Any:  # noqa: ANN401 - a boto3 client
        return self.client("sagemaker")

    @cached_property
    def models(self) -> Folder:
        """Where models lie in S3."""
        return Folder(self.client("s3"), self.settings.models_uri)

    @contextmanager
    def _calling(self, action: str, resource: str = "") -> Iterator[None]:
        with explained(f"sagemaker:{action}", resource or f"endpoint {self.name}"):
            yield

    def describe(self) -> dict[str, Any] | None:
        """Return what SageMaker says of the endpoint; None if there is none."""
        return self._find("DescribeEndpoint", "describe_endpoint", EndpointName=self.name)

    def _find(self, action: str, method: str, **which: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see client

        with self._calling(action, next(iter(which.values()))):
            try:
                return getattr(self._sagemaker, method)(**which)
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a resource."""
        with self._calling("ListTags"):
            pages = self._sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
            return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}

    def status(self) -> Status:
        """Return what is served, and how."""
        found = self.describe()
        if not found:
            return Status(None, None, running=False, target=self.name, state="none")
        variants = found.get("ProductionVariants") or [{}]
        serving = found["EndpointStatus"] in SERVING
        capture = found.get("DataCaptureConfig") or {}
        before = self.previous(found)
        return Status(
            version=self.version_of(found["EndpointConfigName"]) if serving else None,
            previous=self.version_of(before) if before else None,
            running=serving,
            target=self.name,
            state=found["EndpointStatus"],
            instances=int(variants[0].get("CurrentInstanceCount") or 0),
            captures=bool(capture.get("EnableCapture")),
        )

    def version_of(self, configuration: str) -> str:
        """Return the version that a name carries."""
        match = self._names.fullmatch(configuration)
        return match[1] if match else "unknown"

    def previous(self, found: Mapping[str, Any]) -> str | None:
        """Return the configuration that was live before the one that is, if it is still there."""
        name = self.tags(found["EndpointArn"]).get(PREVIOUS)
        # an update that failed after whoever began it was interrupted leaves the live one's name
        if name == found["EndpointConfigName"]:
            return None
        return name if name and name in self.configurations() else None

    def configurations(self) -> list[str]:
        """Return the names of the endpoint's configurations, newest first."""
        with self._calling("ListEndpointConfigs"):
            pages = self._sagemaker.get_paginator("list_endpoint_configs").paginate(
                NameContains=f"{self.name}-v"
            )
            names = [one["EndpointConfigName"] for page in pages for one in page["EndpointConfigs"]]
        # a name ends with its time
        return sorted(filter(self._names.fullmatch, names), key=lambda n: n[-14:], reverse=True)

    def deploy(self, release: Release) -> None:
        """Put a version live, unless it is; see `Backend.deploy`."""
        Predictor.load(release.path / ARTIFACTS).try_out()
        found = self._require_still()
        if found and found["EndpointStatus"] == "Failed":
            # nothing else can be done with one that could not be created
            logger.info("endpoint %s could not be created before; it is removed", self.name)
            self._delete_endpoint()
            found = None
        if found and self._is_live(release, found["EndpointConfigName"]):
            logger.info("version %s is live already", release.version)
            self._put_alarms()
            self._tag(found, release.version, release.run_id)
            return
        if self.settings.serverless:
            logger.warning("a serverless endpoint captures nothing, so nothing can be monitored")
        name = f"{self.name}-v{release.version}-{datetime.now(UTC):%Y%m%d%H%M%S}"
        try:
            self._upload(release, name)
            self._create_model(release, name)
            self._create_configuration(release, name)
            self._put_alarms()
            with self._remembering(found, name):
                now = self._go_live(name, found, self.settings.rollout, release)
        except Exception:
            if self._is_unused(name):
                self._remove(name)
            raise
        self._tag(now, release.version, release.run_id)
        self._drop_old(now)

    def rollback(self) -> str:
        """Put the former configuration back, and return its version."""
        found = self._require_still()
        before = self.previous(found) if found else None
        if not (found and before):
            raise BackendError(
                f"endpoint {self.name}: no version was live before this one, or its configuration"
                " is gone; nothing to roll back to"
            )
        version = self.version_of(before)
        with self._remembering(found, before):
            now = self._go_live(before, found)
        model = self._find("DescribeModel", "describe_model", ModelName=before) or {}
        variables = model.get("PrimaryContainer", {}).get("Environment", {})
        self._tag(now, version, variables.get("MODEL_RUN_ID", ""))
        return version

    def delete(self) -> None:
        """Remove the endpoint, its alarms, configurations and models; captures stay."""
        if self._require_still():
            self._delete_endpoint()
        self._delete_alarms()
        for name in self.configurations():
            self._remove(name)

    def _delete_endpoint(self) -> None:
        with self._calling("DeleteEndpoint"):
            self._sagemaker.delete_endpoint(EndpointName=self.name)
        self._wait("removed")

    def _require_still(self) -> dict[str, Any] | None:
        """Return the endpoint, which nobody is changing now."""
        found = self.describe()
        if found and found["EndpointStatus"] in CHANGING:
            raise BackendError(
                f"endpoint {self.name} is {found['EndpointStatus']} already; wait until it is"
                " InService (`just sagemaker-status`), and try again"
            )
        return found

    def _is_live(self, release: Release, configuration: str) -> bool:
        """Whether a configuration is the one that would be made."""
        config = self._find(
            "DescribeEndpointConfig", "describe_endpoint_config", EndpointConfigName=configuration
        )
        model = self._find("DescribeModel", "describe_model", ModelName=configuration)
        wanted = blueprint.model(self.settings, release, configuration)
        # the rest is the same for every model
        wanted = {key: wanted[key] for key in ("PrimaryContainer", "ExecutionRoleArn")}
        return holds(model, wanted) and holds(
            config, blueprint.configuration(self.settings, release, configuration)
        )

    def _is_unused(self, configuration: str) -> bool:
        """Whether it is certain that the endpoint neither has a configuration nor will get it."""
        try:
            found = self.describe()
        except BackendError:
            return False
        return not found or (
            found["EndpointStatus"] not in CHANGING and found["EndpointConfigName"] != configuration
        )

    def _upload(self, release: Release, name: str) -> None:
        key = blueprint.model_file(name)
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                for path in sorted(release.path.iterdir()):
                    archive.add(path, path.name, filter=packable)
            size = packed.tell()
            packed.seek(0)
            logger.info("uploading %s (%.1f MB)", key, size / 1e6)
            self.models.write(key, packed)

    def _create_model(self, release: Release, name: str) -> None:
        with self._calling("CreateModel", f"model {name}"):
            self._sagemaker.create_model(
                **blueprint.model(self.settings, release, name), Tags=self._tags(release)
            )

    def _create_configuration(self, release: Release, name: str) -> None:
        with self._calling("CreateEndpointConfig", f"endpoint configuration {name}"):
            self._sagemaker.create_endpoint_config(
                **blueprint.configuration(self.settings, release, name), Tags=self._tags(release)
            )

    def _tags(self, release: Release) -> list[dict[str, str]]:
        return as_list(self.settings.labels(release.version, release.run_id))

    def _put_alarms(self) -> None:
        """Make the alarms of the settings; where there are none, remove those of before."""
        alarms = blueprint.alarms(self.settings)
        if not alarms:
            self._delete_alarms()
        with explained("cloudwatch:PutMetricAlarm", f"endpoint {self.name}"):
            for alarm in alarms:
                self.client("cloudwatch").put_metric_alarm(**alarm)

    def _delete_alarms(self) -> None:
        with explained("cloudwatch:DeleteAlarms", f"endpoint {self.name}"):
            self.client("cloudwatch").delete_alarms(AlarmNames=list(self.settings.alarm_names))

    @contextmanager
    def _remembering(self, found: Mapping[str, Any] | None, name: str) -> Iterator[None]:
        """Tag the live configuration as the one before, while another one takes its place.

        AWS goes on without whoever is interrupted, so the tag is there before it begins; it gets
        its former value back if the other one does not go live.

        Args:
            found: The endpoint as it is; None if there is none.
            name: The other configuration.
        """
        if not found:
            yield
            return
        former = self.tags(found["EndpointArn"]).get(PREVIOUS)
        self._add_tags(found, {PREVIOUS: found["EndpointConfigName"]})
        try:
            yield
        except Exception:
            if former and self._is_unused(name):
                # must not hide what happened before it; `previous` can do without
                with suppress(BackendError):
                    self._add_tags(found, {PREVIOUS: former})
            raise

    def _go_live(
        self,
        name: str,
        found: Mapping[str, Any] | None,
        rollout: Rollout | None = None,
        release: Release | None = None,
    ) -> dict[str, Any]:
        """Create or update the endpoint, wait, and see whether it serves what it should.

        Args:
            name: The configuration.
            found: The endpoint as it is; None if there is none.
            rollout: How traffic goes over; None for a rollback.
            release: For the tags of a new endpoint.
        """
        began = time.time()
        which = {"EndpointName": self.name, "EndpointConfigName": name}
        if not found:
            with self._calling("CreateEndpoint"):
                self._sagemaker.create_endpoint(
                    **which, Tags=self._tags(release) if release else []
                )
        else:
            guard = blueprint.guard(self.settings, rollout)
            with self._calling("UpdateEndpoint"):
                self._sagemaker.update_endpoint(**which, **guard)
        more_seconds = rollout.total_seconds if rollout else 0
        try:
            now = self._wait("created" if not found else "updated", more_seconds)
        except BaseException:
            logger.warning(
                "AWS goes on with version %s on endpoint %s, and bills it; `just sagemaker-status`"
                " shows what it comes to, %s then undoes it",
                *(self.version_of(name), self.name, self._undoing(name, found)),
            )
            raise
        if now and now["EndpointStatus"] == "InService" and now["EndpointConfigName"] == name:
            return now
        reason = self._why(now, began)
        version = self.version_of(name)
        if not found:
            self._delete_endpoint()
            raise BackendError(
                f"endpoint {self.name} could not be created with version {version}: {reason};"
                " nothing is served"
            )
        live = self.version_of(found["EndpointConfigName"])
        raise BackendError(
            f"version {version} did not go live on endpoint {self.name}: {reason};"
            f" version {live} goes on serving"
        )

    def _undoing(self, name: str, found: Mapping[str, Any] | None) -> str:
        """Say how to get from a configuration back to the endpoint as it was found."""
        if not found:
            return "`just sagemaker-delete`"
        live = self.version_of(found["EndpointConfigName"])
        if live == self.version_of(name):
            return "`just sagemaker-deploy` with the settings of before"
        return f"`just sagemaker-rollback --to {live}`"

    def _wait(self, until: str, more_seconds: float = 0) -> dict[str, Any] | None:
        """Wait until nothing changes any more; return the endpoint, or None once it is gone.

        Args:
            until: What is being done to it.
            more_seconds: Time that it takes beyond what any change may take.
        """
        patience = PATIENCE_SECONDS + more_seconds
        began = told = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            found = self.describe()
            if not found or found["EndpointStatus"] not in CHANGING:
                return found
            now = time.monotonic()
            if now - began > patience:
                raise BackendError(
                    f"endpoint {self.name} is still {found['EndpointStatus']} after"
                    f" {patience / 60:.0f} minutes; look at it in the SageMaker console"
                )
            if told == began or now - told >= TELL_SECONDS:
                logger.info(
                    "endpoint %s is being %s: %s, %.0f s",
                    self.name,
                    until,
                    found["EndpointStatus"],
                    now - began,
                )
                told = now
            time.sleep(pause)
            pause = min(pause * 1.3, LONGEST_PAUSE)

    def _why(self, found: Mapping[str, Any] | None, began: float) -> str:
        """Say why an endpoint does not serve what it should."""
        reasons = [str((found or {}).get("FailureReason") or "SageMaker gives no reason")]
        if words := self._last_words(began):
            reasons.append(f"its container said: {words}")
        with suppress(BackendError), explained("cloudwatch:DescribeAlarms", self.name):
            alarms = self.client("cloudwatch").describe_alarms(
                AlarmNames=list(self.settings.alarm_names)
            )
            ringing = [
                alarm["AlarmName"]
                for alarm in alarms["MetricAlarms"]
                if alarm["StateValue"] == "ALARM"
            ]
            if ringing:
                reasons.append(f"in alarm: {', '.join(ringing)}")
        return "; ".join(" ".join(reason.split()).rstrip(".") for reason in reasons)

    def _last_words(self, began: float) -> str:
        """Return the last error, else the last line, of the endpoint's containers since then."""
        group = f"/aws/sagemaker/Endpoints/{self.name}"
        # whoever may not read logs still learns that it failed
        with suppress(BackendError), explained("logs:FilterLogEvents", group):
            pages = (
                self.client("logs")
                .get_paginator("filter_log_events")
                .paginate(logGroupName=group, startTime=int(began * 1000) - 1000)
            )
            lines = [one["message"].strip() for page in pages for one in page["events"]]
            lines = [line for line in lines if line][-LOG_LINES:]
            errors = [line for line in lines if line.startswith("error: ")]
            return (errors or lines or [""])[-1].removeprefix("error: ")[:500]
        return ""

    def _tag(self, found: Mapping[str, Any], version: str, run_id: str) -> None:
        tags = self.settings.labels(version, run_id)
        if not tags.items() <= self.tags(found["EndpointArn"]).items():
            self._add_tags(found, tags)

    def _add_tags(self, found: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        with self._calling("AddTags"):
            self._sagemaker.add_tags(ResourceArn=found["EndpointArn"], Tags=as_list(tags))

    def _drop_old(self, found: Mapping[str, Any]) -> None:
        """Remove what is older than the last few configurations that were live."""
        needed = {found["EndpointConfigName"], self.previous(found)}
        former = [name for name in self.configurations() if name not in needed]
        for name in former[KEPT - 1 :]:
            logger.info("removing %s", name)
            self._remove(name)

    def _remove(self, name: str) -> None:
        """Remove a configuration, its model and the model's file, as far as they are there."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see client

        steps = (
            ("DeleteEndpointConfig", "delete_endpoint_config", {"EndpointConfigName": name}),
            ("DeleteModel", "delete_model", {"ModelName": name}),
        )
        try:
            for action, method, which in steps:
                with self._calling(action, name):
                    try:
                        getattr(self._sagemaker, method)(**which)
                    except ClientError as error:
                        if not is_missing(error):
                            raise
            self.models.remove(blueprint.model_file(name))
        except BackendError as error:
            # it costs a little storage, and must not hide what happened before it
            logger.warning("%s is left behind: %s", name, error)


def is_missing(error: "ClientError") -> bool:
    """Whether SageMaker says that there is no such resource: it has no code of its own for that."""
    text = str(error).lower()
    return code(error) in ("ValidationException", "ResourceNotFound") and (
        "could not find" in text or "not found" in text or "does not exist" in text
    )


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as AWS takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def packable(file: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what an endpoint does not need, and say nothing of who packed it."""
    if file.name.endswith((*LEFT_OUT, ".pyc", "__pycache__")):
        return None
    file.uid = file.gid = 0
    file.uname = file.gname = ""
    return file


def holds(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether all that is wanted is among what was found, which may be more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            holds(found.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
        )
    return found == wanted
