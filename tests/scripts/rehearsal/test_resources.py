import json
from uuid import uuid4

import pytest

pytestmark = pytest.mark.integration

SECRET = {
    "Type": "AWS::SecretsManager::Secret",
    "Properties": {
        "Name": {"Ref": "AWS::StackName"},
        "GenerateSecretString": {
            "SecretStringTemplate": '{"user": "admin"}',
            "GenerateStringKey": "password",
            "PasswordLength": 40,
        },
    },
}
BUCKET = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Ref": "AWS::StackName"}}}
JOBS = {
    "Network": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
    "Subnet": {
        "Type": "AWS::EC2::Subnet",
        "Properties": {"VpcId": {"Ref": "Network"}, "CidrBlock": "10.0.0.0/24"},
    },
    "Group": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"VpcId": {"Ref": "Network"}, "GroupDescription": "jobs"},
    },
    # its role is named nowhere: AWS uses its own
    "Jobs": {
        "Type": "AWS::Batch::ComputeEnvironment",
        "Properties": {
            "Type": "MANAGED",
            "ComputeResources": {
                "Type": "FARGATE",
                "MaxvCpus": 1,
                "Subnets": [{"Ref": "Subnet"}],
                "SecurityGroupIds": [{"Fn::GetAtt": ["Group", "GroupId"]}],
            },
        },
    },
}


@pytest.fixture
def make(aws):
    """Make a stack through a change set; remove it in the end."""
    cloudformation = aws.client("cloudformation")
    name = f"stack-{uuid4().hex[:8]}"

    def through_change_set(resources: dict, outputs: dict | None = None) -> str:
        template = {"Resources": resources, "Outputs": outputs or {}}
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName="first",
            ChangeSetType="CREATE",
            TemplateBody=json.dumps(template),
        )
        cloudformation.execute_change_set(StackName=name, ChangeSetName="first")
        return name

    yield through_change_set
    cloudformation.delete_stack(StackName=name)


def test_a_stack_makes_a_secret_and_takes_it_along(aws, make):
    name = make({"Secret": SECRET}, {"Arn": {"Value": {"Ref": "Secret"}}})
    manager, cloudformation = aws.client("secretsmanager"), aws.client("cloudformation")

    found = json.loads(manager.get_secret_value(SecretId=name)["SecretString"])

    assert found["user"] == "admin"
    assert len(found["password"]) == 40
    outputs = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["Outputs"]
    assert outputs[0]["OutputValue"].startswith("arn:aws:secretsmanager:")
    cloudformation.delete_stack(StackName=name)
    assert name not in {one["Name"] for one in manager.list_secrets()["SecretList"]}


def test_batch_brings_its_own_role(aws, make):
    make(JOBS)

    described = aws.client("batch").describe_compute_environments()["computeEnvironments"]

    role = described[-1]["serviceRole"]
    assert ":role/aws-service-role/batch.amazonaws.com/" in role


def test_a_resource_that_fails_takes_the_stack_back_and_says_why(aws, make, refused):
    aws.client("iam").create_user(UserName="somebody")
    taken = {"Type": "AWS::IAM::User", "Properties": {"UserName": "somebody"}}

    name = make({"Bucket": BUCKET, "Wrong": taken})

    cloudformation = aws.client("cloudformation")
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert [event["LogicalResourceId"] for event in failed] == ["Wrong"]
    assert "somebody" in failed[0]["ResourceStatusReason"]
    refused("404", aws.client("s3").head_bucket, Bucket=name)
