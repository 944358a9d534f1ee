"""What is asked of SageMaker for an endpoint: the settings, and the requests that follow."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from inference.backend import Release
from inference.events import VERSION
from inference.schema import Strict

# Guardrails move traffic between two fleets of the same variant, so its name never changes.
VARIANT = "AllTraffic"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_TrafficRoutingConfig.html
LEAST_LINEAR_PERCENT = 10


class Serverless(Strict):
    """An endpoint without instances of its own. SageMaker captures nothing there.

    Attributes:
        memory_mb: Memory of each copy, which also says how much of a processor it gets.
        max_concurrency: Copies that may run at once.
    """

    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 2048
    max_concurrency: int = Field(default=5, ge=1, le=200)


class Rollout(Strict):
    """How traffic goes over to a new version.

    Attributes:
        kind: At once, first a part of it, or in equal steps; the last two need instances to share.
        percent: The part, or each step, of the instances.
        watch_seconds: Time in which an alarm brings the former version back: after everything
            went over, and before it where it goes in parts.
    """

    kind: Literal["all_at_once", "canary", "linear"] = "all_at_once"
    percent: int = Field(default=50, ge=1, le=50)
    watch_seconds: int = Field(default=180, ge=0, le=3600)

    @model_validator(mode="after")
    def _has_steps_of_some_size(self) -> Self:
        if self.kind == "linear" and self.percent < LEAST_LINEAR_PERCENT:
            msg = f"rollout linear needs a percent of {LEAST_LINEAR_PERCENT} or more"
            raise ValueError(msg)
        return self

    @property
    def total_seconds(self) -> int:
        """Time of all waits together: there is one after each step."""
        steps = {"all_at_once": 1, "canary": 2, "linear": -(-100 // self.percent)}
        return steps[self.kind] * self.watch_seconds

    def policy(self) -> dict[str, Any]:
        """Return it as SageMaker reads it."""
        routing: dict[str, Any] = {
            "Type": self.kind.upper(),
            "WaitIntervalInSeconds": self.watch_seconds,
        }
        size = {"Type": "CAPACITY_PERCENT", "Value": self.percent}
        if self.kind == "canary":
            routing["CanarySize"] = size
        if self.kind == "linear":
            routing["LinearStepSize"] = size
        return {"TrafficRoutingConfiguration": routing}


class AlarmLimits(Strict):
    """What brings the former version back; each is judged minute by minute.

    Attributes:
        share_of_5xx: Largest share of requests that fail in the service.
        latency_ms: Largest time, in milliseconds, that a model takes for 99 % of requests.
    """

    share_of_5xx: float = Field(default=0.01, gt=0, le=1)
    latency_ms: float = Field(default=500, gt=0)


class EndpointSettings(Strict):
    """The keys of the `backend:` section that say what is deployed, and how.

    Attributes:
        target: Name of the endpoint.
        region: AWS region.
        assume_role: ARN of a role that calls are made under; without it, whoever calls.
        execution_role: ARN of the role under which SageMaker reads models and writes captures.
        models_uri: Folder of S3 for models.
        data_capture_uri: Folder of S3 for what is captured.
        image: Address of the container image; see containers/serving.
        instance_type: Machine.
        instance_count: How many of them.
        serverless: Takes the place of instances.
        rollout: How traffic goes over to a new version.
        alarms: What brings the former version back; None for no alarms.
        tags: Of the endpoint, its models and configurations.
    """

    target: str = Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$", max_length=40)
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    assume_role: str = ""
    execution_role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$")
    models_uri: str = Field(pattern=r"^s3://[a-z0-9.-]+(/[^/]+)*/?$")
    data_capture_uri: str = Field(pattern=r"^s3://[a-z0-9.-]+(/[^/]+)*/?$")
    image: str
    instance_type: str = Field(default="ml.m5.large", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
    instance_count: int = Field(default=1, ge=1)
    serverless: Serverless | None = None
    rollout: Rollout = Rollout()
    alarms: AlarmLimits | None = AlarmLimits()
    tags: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.rollout.kind != "all_at_once" and (self.serverless or self.instance_count == 1):
            msg = f"rollout {self.rollout.kind} needs two instances or more: one cannot be divided"
            raise ValueError(msg)
        return self

    @property
    def alarm_names(self) -> tuple[str, str]:
        """Names of the alarms: too many failures, too slow."""
        return f"{self.target}-5xx", f"{self.target}-latency"

    def labels(self, version: str, run_id: str) -> dict[str, str]:
        """Return the tags of an endpoint, a model or a configuration."""
        return self.tags | {"model_version": version, "run_id": run_id}

    def model_uri(self, name: str) -> str:
        """Return where the file of a model lies in S3."""
        return f"{self.models_uri.rstrip('/')}/{model_file(name)}"


def model_file(name: str) -> str:
    """Return where the file of a model lies in the folder of models."""
    return f"{name}/model.tar.gz"


def model(settings: EndpointSettings, release: Release, name: str) -> dict[str, Any]:
    """Return the request that makes the model of a version."""
    return {
        "ModelName": name,
        "ExecutionRoleArn": settings.execution_role,
        "PrimaryContainer": {
            "Image": settings.image,
            "ModelDataUrl": settings.model_uri(name),
            "Environment": {
                "MODEL_VERSION": release.version,
                "MODEL_RUN_ID": release.run_id,
                "LOG_FORMAT": "json",
            },
        },
        # what answers has no need to call anybody; serverless endpoints cannot be cut off
        "EnableNetworkIsolation": not settings.serverless,
    }


def configuration(settings: EndpointSettings, release: Release, name: str) -> dict[str, Any]:
    """Return the request that makes the endpoint configuration of a version."""
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": name}
    if settings.serverless:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": settings.serverless.memory_mb,
            "MaxConcurrency": settings.serverless.max_concurrency,
        }
        return {"EndpointConfigName": name, "ProductionVariants": [variant]}
    variant |= {
        "InstanceType": settings.instance_type,
        "InitialInstanceCount": settings.instance_count,
        "InitialVariantWeight": 1.0,
    }
    folder = f"{settings.data_capture_uri.rstrip('/')}/{VERSION}{release.version}"
    return {
        "EndpointConfigName": name,
        "ProductionVariants": [variant],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": folder,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            # what is not listed is captured as BASE64
            "CaptureContentTypeHeader": {
                "CsvContentTypes": ["text/csv"],
                "JsonContentTypes": ["application/json"],
            },
        },
    }


def alarms(settings: EndpointSettings) -> list[dict[str, Any]]:
    """Return the requests that make the alarms; none where there are no limits."""
    limits = settings.alarms
    if not limits or settings.serverless:
        return []
    failures, latency = settings.alarm_names
    common = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": [
            {"Name": "EndpointName", "Value": settings.target},
            {"Name": "VariantName", "Value": VARIANT},
        ],
        "Period": 60,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    return [
        # an average of zeros and ones, one a request
        common
        | {"AlarmName": failures, "MetricName": "Invocation5XXErrors", "Statistic": "Average"}
        | {"Threshold": limits.share_of_5xx},
        # in microseconds
        common
        | {"AlarmName": latency, "MetricName": "ModelLatency", "ExtendedStatistic": "p99"}
        | {"Threshold": limits.latency_ms * 1000},
    ]


def guard(settings: EndpointSettings, rollout: Rollout | None) -> dict[str, Any]:
    """Return what a request to update an endpoint says of the way there, and back.

    Args:
        settings: Of the endpoint.
        rollout: How traffic goes over; None for a rollback, which is made at once.
    """
    if settings.serverless:
        return {}
    steps = rollout or Rollout(watch_seconds=0)
    policy: dict[str, Any] = {"BlueGreenUpdatePolicy": steps.policy()}
    # The alarms are of the whole endpoint: those that the version set off which is to go would end
    # its rollback.
    if rollout and settings.alarms:
        named = [{"AlarmName": name} for name in settings.alarm_names]
        policy["AutoRollbackConfiguration"] = {"Alarms": named}
    return {"DeploymentConfig": policy}
