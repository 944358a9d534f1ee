"""An endpoint as SageMaker describes it."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.rehearsal.answers import AwsError
from scripts.rehearsal.containers import Container

ACCOUNT = "123456789012"


@dataclass
class Endpoint:
    """An endpoint, as it is now.

    Attributes:
        config: Endpoint configuration that serves, or that the first creation is for.
        pending: The one that an update is moving to.
        variants: ProductionVariants of DescribeEndpoint.
        containers: What serves, by variant.
        roll_back: The running or next update is to end as an alarm's rollback does.
    """

    name: str
    region: str
    config: dict[str, Any]
    deployment: dict[str, Any] | None
    status: str = "Creating"
    reason: str | None = None
    pending: dict[str, Any] | None = None
    pending_since: float = field(default_factory=time.time)
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    variants: list[dict[str, Any]] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    roll_back: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return resource_name(self.region, "endpoint", self.name)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeEndpoint answers."""
        capture = self.config.get("DataCaptureConfig") or {}
        described: dict[str, Any] = {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.config["EndpointConfigName"],
            "EndpointStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }
        if self.variants:
            described["ProductionVariants"] = self.variants
        if capture:
            on = bool(capture.get("EnableCapture", True))
            described["DataCaptureConfig"] = {
                "EnableCapture": on,
                "CaptureStatus": "Started" if on and self.containers else "Stopped",
                "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
                "DestinationS3Uri": capture["DestinationS3Uri"],
                "KmsKeyId": capture.get("KmsKeyId", ""),
            }
        if self.reason:
            described["FailureReason"] = self.reason
        if self.deployment:
            described["LastDeploymentConfig"] = self.deployment
        if self.pending:
            described["PendingDeploymentSummary"] = {
                "EndpointConfigName": self.pending["EndpointConfigName"],
                "ProductionVariants": [
                    {"VariantName": variant["VariantName"]}
                    for variant in self.pending["ProductionVariants"]
                ],
                "StartTime": self.pending_since,
            }
        return described


def resource_name(region: str, kind: str, name: str) -> str:
    """Return the Amazon Resource Name of something of SageMaker's."""
    return f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind}/{name}"


def retained(config: dict[str, Any], endpoint: Endpoint, kept: set[str]) -> dict[str, Any]:
    """Return a configuration with the properties of the live one that an update keeps."""
    old = {variant["VariantName"]: variant for variant in endpoint.variants}
    names = {
        "DesiredInstanceCount": "InitialInstanceCount",
        "DesiredWeight": "InitialVariantWeight",
    }
    variants = []
    for variant in config["ProductionVariants"]:
        live = old.get(variant["VariantName"], {})
        changes = {names[key]: live[key] for key in kept & names.keys() if key in live}
        variants.append(variant | changes)
    result = config | {"ProductionVariants": variants}
    if "DataCaptureConfig" in kept:
        result["DataCaptureConfig"] = endpoint.config.get("DataCaptureConfig")
    return result


def summary(variant: Mapping[str, Any], container: Container) -> dict[str, Any]:
    """Return what DescribeEndpoint says of a production variant."""
    image = container.model.get("Image", "")
    described: dict[str, Any] = {
        "VariantName": variant["VariantName"],
        "DeployedImages": [
            {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": time.time()}
        ],
    }
    weight = variant.get("InitialVariantWeight", 1.0)
    described |= {"CurrentWeight": weight, "DesiredWeight": weight}
    if serverless := variant.get("ServerlessConfig"):
        return described | {
            "CurrentServerlessConfig": serverless,
            "DesiredServerlessConfig": serverless,
            "CurrentInstanceCount": 0,
        }
    count = variant.get("InitialInstanceCount", 1)
    return described | {"CurrentInstanceCount": count, "DesiredInstanceCount": count}


def choose(endpoint: Endpoint, target: str | None) -> dict[str, Any]:
    """Choose the variant that answers: the one asked for, or one at random by weight.

    Raises:
        AwsError: There is no such variant.
    """
    if target is None:
        weights = [variant["CurrentWeight"] for variant in endpoint.variants]
        return random.choices(endpoint.variants, weights)[0]  # noqa: S311 - not for secrets
    for variant in endpoint.variants:
        if variant["VariantName"] == target:
            return variant
    raise AwsError("ValidationError", f"Variant {target} not found for endpoint {endpoint.name}.")
