"""What moto's CloudFormation and SageMaker leave out of what the project's stacks need.

Moto has no interface for any of this, so each part reaches into it and says why.
"""

import json
import secrets
from typing import Any

from moto.batch.models import ComputeEnvironment
from moto.cloudformation import parsing
from moto.cloudformation.models import CloudFormationBackend, Event, Stack
from moto.core.common_models import CloudFormationModel
from moto.ec2.models import ec2_backends
from moto.ec2.models.route_tables import RouteTable
from moto.iam.models import iam_backends
from moto.sagemaker.models import FakeEndpointConfig
from moto.secretsmanager.models import secretsmanager_backends

BATCH = "batch.amazonaws.com"
STACK = "AWS::CloudFormation::Stack"


def install() -> None:
    """Fill it in."""
    # moto knows a few of the instance types only; `control_plane` has compared them with all
    FakeEndpointConfig.validate_instance_type = lambda *_: None  # type: ignore[method-assign]
    give_batch_its_role()
    report_stacks()
    RouteTable.delete = delete_route_table  # type: ignore[attr-defined] - moto never deletes one
    # moto lists the classes of resources once; Secret is one of them now
    for known in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        known.cache_clear()


def delete_route_table(table: RouteTable, account_id: str, region_name: str) -> None:
    """Delete a route table with its stack; its network could not be deleted otherwise."""
    table._associations.clear()  # noqa: SLF001 - see above
    ec2_backends[account_id][region_name].delete_route_table(table.id)


class Secret(CloudFormationModel):
    """A generated secret, which moto skips in stacks without a word."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_type() -> str:
        """Return the type by which a template names it."""
        return "AWS::SecretsManager::Secret"

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return the property that holds its name."""
        return "Name"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Whether a template may ask for an attribute."""
        return attr == "Id"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """Return an attribute."""
        if attribute_name != "Id":
            raise KeyError(attribute_name)
        return self.physical_resource_id

    @classmethod
    def create_from_cloudformation_json(  # type: ignore[override] - moto says Any of itself
        cls,
        resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
        **_: Any,  # noqa: ANN401 - moto's signature
    ) -> "Secret":
        """Make it, with its generated value."""
        properties = cloudformation_json["Properties"]
        wanted = properties["GenerateSecretString"]
        content = json.loads(wanted["SecretStringTemplate"])
        content[wanted["GenerateStringKey"]] = secrets.token_hex(wanted["PasswordLength"] // 2)
        made = secretsmanager_backends[account_id][region_name].create_secret(
            name=resource_name,
            secret_string=json.dumps(content),
            secret_binary=None,
            description=properties.get("Description"),
            tags=properties.get("Tags", []),
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(json.loads(made)["ARN"])

    @classmethod
    def update_from_cloudformation_json(  # type: ignore[override] - see above
        cls,
        original_resource: "Secret",
        new_resource_name: str,  # noqa: ARG003 - moto's signature
        cloudformation_json: dict[str, Any],  # noqa: ARG003 - see above
        account_id: str,  # noqa: ARG003 - see above
        region_name: str,  # noqa: ARG003 - see above
    ) -> "Secret":
        """Keep it: an update of a stack generates no new value."""
        return original_resource

    def delete(self, account_id: str, region_name: str) -> None:
        """Remove it, with its stack."""
        backend = secretsmanager_backends[account_id][region_name]
        backend.delete_secret(self.physical_resource_id, None, True)  # noqa: FBT003 - moto's signature


def give_batch_its_role() -> None:
    """Let Batch use its own role, as AWS does; moto wants one to be named."""
    make = ComputeEnvironment.create_from_cloudformation_json.__func__  # type: ignore[attr-defined] - a class method has it

    def with_role(
        cls: type,
        resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
        **more: Any,  # noqa: ANN401 - moto's signature
    ) -> ComputeEnvironment:
        iam = iam_backends[account_id]["aws"]
        own = next((role for role in iam.roles.values() if f"{BATCH}/" in role.arn), None)
        role = own or iam.create_service_linked_role(BATCH, "", "")
        cloudformation_json["Properties"].setdefault("ServiceRole", role.arn)
        return make(cls, resource_name, cloudformation_json, account_id, region_name, **more)

    ComputeEnvironment.create_from_cloudformation_json = classmethod(with_role)  # type: ignore[method-assign] - moto is changed here on purpose


def report_stacks() -> None:
    """Let stacks tell what became of their resources, and be rolled back where one fails.

    Moto answers the call itself with the error of a resource, and leaves the stack half made.
    """
    create, execute = parsing.parse_and_create_resource, CloudFormationBackend.execute_change_set

    def create_or_name(logical: str, description: dict[str, Any], *more: Any, **others: Any) -> Any:  # noqa: ANN401 - moto's signature
        try:
            return create(logical, description, *more, **others)
        except Exception as error:
            # the innermost one
            if not hasattr(error, "resource"):
                error.resource = (logical, description["Type"])  # type: ignore[attr-defined] - take_back looks for it
            raise

    def execute_and_tell(
        self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None
    ) -> None:
        # by its name, moto would take one of another stack
        change = self.change_sets.get(change_set_name) or next(
            one
            for one in self.change_sets.values()
            # those of removed stacks stay
            if one.change_set_name == change_set_name
            and one.stack_id in self.stacks
            and stack_name in (one.stack_id, self.stacks[one.stack_id].name)
        )
        stack = self.stacks[change.stack_id]
        before = set(stack.resource_map._parsed_resources)  # noqa: SLF001 - moto keeps them there
        try:
            execute(self, change.change_set_id, stack_name)
        except Exception as error:  # noqa: BLE001 - a failed resource is the stack's to tell
            take_back(stack, before, error)
            return
        for name, resource in change.template_dict["Resources"].items():
            tell(stack, name, resource["Type"], f"{change.change_set_type}_COMPLETE")
        # moto takes over the resources of a change set, but not its parameters and outputs
        stack._parse_template()  # noqa: SLF001 - as moto does itself when a stack is made
        stack.parameters = change.parameters
        stack.output_map = stack._create_output_map()  # noqa: SLF001 - see above

    parsing.parse_and_create_resource = create_or_name
    CloudFormationBackend.execute_change_set = execute_and_tell  # type: ignore[method-assign] - moto is changed here on purpose


def take_back(stack: Stack, before: set[str], error: Exception) -> None:
    """Remove what a stack has made of its resources, and tell why."""
    resource, kind = getattr(error, "resource", (stack.name, STACK))
    tell(stack, resource, kind, "CREATE_FAILED", getattr(error, "message", None) or str(error))
    tell(stack, stack.name, STACK, "ROLLBACK_IN_PROGRESS", f"{resource} failed to create")
    parsed = stack.resource_map._parsed_resources  # noqa: SLF001 - moto keeps them there
    for name in parsed.keys() - before:
        if name not in stack.resource_map._resource_json_map:  # noqa: SLF001 - see above
            del parsed[name]
    stack.resource_map.delete()
    stack.status = "ROLLBACK_COMPLETE"
    tell(stack, stack.name, STACK, "ROLLBACK_COMPLETE")


def tell(stack: Stack, resource: str, kind: str, status: str, reason: str | None = None) -> None:
    """Add to what a stack tells of itself."""
    given = (stack.stack_id, stack.name, resource, resource, kind, status, reason, None)
    stack.events.append(Event(*given))  # type: ignore[arg-type] - moto's metaclass hides the type
