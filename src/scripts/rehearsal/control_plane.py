"""SageMaker's control calls: what moto lacks of them; all else goes on to moto."""

import io
import json
from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Request, Response

from scripts.rehearsal.answers import AwsError, as_json, invalid
from scripts.rehearsal.calls import Call
from scripts.rehearsal.endpoint import resource_name
from scripts.rehearsal.endpoints import Client, Endpoints, split_uri

Content = dict[str, Any]


class ControlPlane:
    """Answers the calls about endpoints, and checks what moto takes unchecked."""

    def __init__(self, endpoints: Endpoints, client: Client, moto: Callable[..., Any]) -> None:
        """Stand in front of moto.

        Args:
            endpoints: All endpoints.
            client: Makes boto3 clients of the local AWS.
            moto: Moto's WSGI application.
        """
        self._endpoints, self._client, self._moto = endpoints, client, moto
        self._answers: dict[str, Callable[[str, Content, Request], Response]] = {
            "AddTags": self._add_tags,
            "CreateEndpoint": self._create_endpoint,
            "CreateEndpointConfig": self._create_config,
            "CreateModel": self._create_model,
            "DeleteEndpoint": self._delete_endpoint,
            "DescribeEndpoint": self._describe_endpoint,
            "ListEndpoints": self._list_endpoints,
            "UpdateEndpoint": self._update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._weigh_endpoint,
        }

    def answer(self, call: Call, request: Request) -> Response | None:
        """Answer a call; None if moto is to do it.

        Raises:
            AwsError: As AWS lets it fail.
        """
        answer = self._answers.get(call.action)
        if answer is None:
            return None
        return answer(call.region, json.loads(request.get_data() or b"{}"), request)

    def _pass_on(self, request: Request, content: Content) -> Response:
        body = json.dumps(content).encode()
        environ = request.environ | {
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
        }
        return Response.from_app(self._moto, environ, buffered=True)

    def _create_endpoint(self, region: str, content: Content, request: Request) -> Response:
        self._endpoints.create(region, content)
        # moto keeps its name and its tags
        return self._pass_on(request, content)

    def _update_endpoint(self, region: str, content: Content, request: Request) -> Response:  # noqa: ARG002 - all answers are called alike
        return as_json({"EndpointArn": self._endpoints.update(region, content).arn})

    def _weigh_endpoint(self, region: str, content: Content, request: Request) -> Response:  # noqa: ARG002 - see above
        return as_json({"EndpointArn": self._endpoints.weigh(region, content).arn})

    def _describe_endpoint(self, region: str, content: Content, request: Request) -> Response:  # noqa: ARG002 - see above
        return as_json(self._endpoints.find(region, content["EndpointName"]).describe())

    def _delete_endpoint(self, region: str, content: Content, request: Request) -> Response:  # noqa: ARG002 - see above
        self._endpoints.delete(region, content["EndpointName"])
        return as_json({})

    def _list_endpoints(self, region: str, content: Content, request: Request) -> Response:
        wanted = content.pop("StatusEquals", None)
        answer = self._pass_on(request, content)
        listed = json.loads(answer.get_data())
        for endpoint in listed.get("Endpoints", ()):
            status = self._endpoints.find(region, endpoint["EndpointName"]).status
            endpoint["EndpointStatus"] = status
        if wanted:
            listed["Endpoints"] = [e for e in listed["Endpoints"] if e["EndpointStatus"] == wanted]
        answer.set_data(json.dumps(listed))
        return answer

    def _create_model(self, region: str, content: Content, request: Request) -> Response:
        name = content["ModelName"]
        self._refuse_second(region, "model", name, "describe_model", ModelName=name)
        uri = content.get("PrimaryContainer", {}).get("ModelDataUrl", "")
        bucket, key = split_uri(uri)
        store = self._client("s3", region)
        try:
            store.head_object(Bucket=bucket, Key=key)
        except store.exceptions.ClientError as error:
            raise invalid(f"Could not find model data at {uri}.") from error
        return self._pass_on(request, content)

    def _create_config(self, region: str, content: Content, request: Request) -> Response:
        name = content["EndpointConfigName"]
        key = {"EndpointConfigName": name}
        self._refuse_second(
            region, "endpoint configuration", name, "describe_endpoint_config", **key
        )
        known = self._client("sagemaker", region).meta.service_model
        types = known.shape_for("ProductionVariantInstanceType").enum  # type: ignore[attr-defined] - a StringShape has it
        for place, variant in enumerate(content["ProductionVariants"], 1):
            if (given := variant.get("InstanceType", types[0])) not in types:
                raise invalid(
                    f"1 validation error detected: Value '{given}' at"
                    f" 'productionVariants.{place}.member.instanceType' failed to satisfy"
                    f" constraint: Member must satisfy enum value set: [{', '.join(types)}]"
                )
        return self._pass_on(request, content)

    def _add_tags(self, region: str, content: Content, request: Request) -> Response:
        # moto would keep the old value of a tag beside the new one
        keys = [tag["Key"] for tag in content["Tags"]]
        client = self._client("sagemaker", region)
        client.delete_tags(ResourceArn=content["ResourceArn"], TagKeys=keys)
        return self._pass_on(request, content)

    def _refuse_second(self, region: str, kind: str, name: str, call: str, **key: str) -> None:
        client = self._client("sagemaker", region)
        try:
            getattr(client, call)(**key)
        except client.exceptions.ClientError:
            return
        short = {"endpoint configuration": "endpoint-config"}.get(kind, kind)
        arn = resource_name(region, short, name)
        raise AwsError("ValidationException", f'Cannot create already existing {kind} "{arn}".')
