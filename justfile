# Every task of the project; `./justw` runs these on a machine without just.
# Recipes pass extra arguments on: `just train --training-epochs 10`.

set dotenv-load
set positional-arguments
set quiet

export KERAS_BACKEND := env("KERAS_BACKEND", "tensorflow")
export TF_CPP_MIN_LOG_LEVEL := env("TF_CPP_MIN_LOG_LEVEL", "3")
# where a machine forbids it, every command would compile TensorFlow anew: 15 s instead of 5
export PYTHONDONTWRITEBYTECODE := ""
export DO_NOT_TRACK := env("DO_NOT_TRACK", "1")
# uv trusts what the machine trusts (a company's proxy, say), or what it brings where that is not found
export UV_SYSTEM_CERTS := env("UV_SYSTEM_CERTS", path_exists("/etc/ssl/certs/ca-certificates.crt"))

# What git stores of uv.lock: no download addresses. The open requires-python makes uv look them up again.
lock_filter := '''sed -E -e 's|\{ url = "[^"]*/([^/"]+)"|{ filename = "\1"|' -e 's|registry = "http[^"]*"|registry = "index"|' -e 's|^requires-python = .*|requires-python = ">=3"|' '''

# `setup` keeps .venv right and is quick when it is; everything after it can leave it as it is.
run := "uv run --no-sync"

on_sagemaker := "--config project config/sagemaker.yml"
# between double quotes in recipes, for its variables; a backtick would run what it quotes
deploys := "deploys to SageMaker endpoint ${ENDPOINT_NAME:-penguins} in ${AWS_REGION:-the default region}: its instances are billed until just sagemaker-delete"

[private]
default:
    {{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --list --unsorted

# Install the locked packages into .venv
[group('set-up')]
setup *ARGS:
    #!/bin/sh
    set -eu
    if ! reason=$(git ls-files -- uv.lock 2>&1); then
        echo "setup: works in a clone made by git only ($reason)" >&2
        exit 1
    fi
    filter={{ quote(trim(lock_filter)) }}
    if [ "$(git config --get filter.lock-without-addresses.clean)" != "$filter" ]; then
        git config filter.lock-without-addresses.clean "$filter"
    fi
    quiet=--quiet
    if [ ! -d .venv ]; then
        echo 'setup: installing the locked packages into .venv (3 GB, some minutes the first time)' >&2
        # someone who waits sees the progress
        [ ! -t 2 ] || quiet=
    fi
    # --inexact leaves groups that were added by hand
    uv sync --inexact $quiet "$@"
    # uv wrote the addresses back: the content that git stores is the same, its size on disk is not
    if git diff --quiet -- uv.lock; then
        # another git may be at work, and nothing depends on this
        git add uv.lock 2>/dev/null || true
    fi

# Check Python, packages, disk, ports, store, endpoint, credentials; say what mends them
[group('set-up')]
[no-exit-message]
doctor *ARGS:
    #!/bin/sh
    # not after `setup`, which would mend or stop what this is to tell
    PYTHONPATH=src
    export PYTHONPATH
    [ -x .venv/bin/python ] || exec uv run --no-project --python '>=3.11' src/scripts/doctor.py "$@"
    exec .venv/bin/python src/scripts/doctor.py "$@"

# Make data/penguins.csv from the palmerpenguins package
[group('set-up')]
data: setup
    {{ run }} --with palmerpenguins==0.1.6 src/scripts/penguins.py

# Write a config file for a CSV file: `just new-project NAME --data FILE.csv --target COLUMN`
[group('set-up')]
[no-exit-message]
new-project *ARGS: setup
    {{ run }} src/scripts/new_project.py "$@"

# Write the tables of config/wine.yml, breast_cancer.yml and parcels.yml into data/
[group('set-up')]
[no-exit-message]
tables *ARGS: setup
    {{ run }} src/scripts/tables.py "$@"

# Remove what runs made: models, captures, reports (never data/ and .venv)
[group('set-up')]
clean:
    [ ! -d .venv ] || {{ run }} src/scripts/stop.py
    rm -rf .demo .metaflow .rookery mlflow.db* mlruns

# Go through the whole loop once: train, deploy, predict, monitor
[group('loop')]
[no-exit-message]
demo *ARGS: setup
    {{ run }} src/scripts/demo.py "$@"

# Train, evaluate and register a model
[group('loop')]
[no-exit-message]
train *ARGS: setup
    {{ run }} src/pipelines/training.py run "$@"

# Train on captured rows with ground truth as well
[group('loop')]
[no-exit-message]
retrain *ARGS: setup
    {{ run }} src/pipelines/training.py run --captured "$@"

# Deploy the newest registered model, if it is no worse than the one that is live
[group('loop')]
[no-exit-message]
deploy *ARGS: setup
    {{ run }} src/pipelines/deployment.py run "$@"

# Serve the version before this one again: `just rollback [--to VERSION] [--dry-run]`
[group('loop')]
[no-exit-message]
rollback *ARGS: setup
    {{ run }} src/scripts/rollback.py "$@"

# Show what was live when, why, and with what figures
[group('loop')]
[no-exit-message]
history *ARGS: setup
    {{ run }} src/scripts/history.py "$@"

# Send traffic to the endpoint
[group('loop')]
[no-exit-message]
traffic *ARGS: setup
    {{ run }} src/pipelines/traffic.py run --mode traffic "$@"

# Label what was captured
[group('loop')]
[no-exit-message]
labels *ARGS: setup
    {{ run }} src/pipelines/traffic.py run --mode labels "$@"

# Judge what was captured: exits 0 on pass and warn, 2 on fail, 1 if it could not
[group('loop')]
[no-exit-message]
monitor *ARGS: setup
    {{ run }} src/scripts/monitor.py "$@"

# Serve the deployed model on http://127.0.0.1:8080
[group('servers')]
[no-exit-message]
serve *ARGS: setup
    {{ run }} src/scripts/serve.py "$@"

# Stop the server that `serve` or `deploy` started
[group('servers')]
[no-exit-message]
stop *ARGS: setup
    {{ run }} src/scripts/stop.py "$@"

# Send one sample request to the server
[group('servers')]
[no-exit-message]
sample *ARGS: setup
    {{ run }} src/scripts/sample.py "$@"

# Count what was captured, by model version
[group('servers')]
[no-exit-message]
sqlite *ARGS: setup
    {{ run }} src/scripts/captures.py "$@"

# Move what waits in the spool into the database
[group('servers')]
[no-exit-message]
capture-replay *ARGS: setup
    {{ run }} src/scripts/capture_replay.py "$@"

# Score a CSV or Parquet file of any size: `just predict FILE [--output FILE]`
[group('servers')]
[no-exit-message]
predict *ARGS: setup
    {{ run }} src/scripts/predict.py "$@"

# Write what `docker build` needs for an image of the deployed model
[group('servers')]
[no-exit-message]
image *ARGS: setup
    {{ run }} src/scripts/image.py "$@"

# Show the history of monitoring on http://127.0.0.1:8000
[group('servers')]
[no-exit-message]
dashboard *ARGS: setup
    {{ run }} src/scripts/dashboard.py "$@"

# Show runs and models on http://127.0.0.1:5000
[group('servers')]
[no-exit-message]
mlflow *ARGS: setup
    {{ run }} src/scripts/mlflow_server.py "$@"

# Make user, roles, bucket and Batch queue: `just aws-setup USER [--region REGION]`
[group('aws')]
[no-exit-message]
aws-setup *ARGS: setup
    {{ run }} src/scripts/aws.py setup "$@"

# Remove what `aws-setup` and `aws-mlflow` made, the bucket with all it holds included
[group('aws')]
[no-exit-message]
aws-teardown *ARGS: setup
    {{ run }} src/scripts/aws.py teardown "$@"

# Start an MLflow server on EC2: `just aws-mlflow --cidr 203.0.113.7/32`
[group('aws')]
[no-exit-message]
aws-mlflow *ARGS: setup
    {{ run }} src/scripts/aws.py mlflow "$@"

# Open a shell on the MLflow server
[group('aws')]
[no-exit-message]
aws-ssh *ARGS: setup
    {{ run }} src/scripts/aws.py ssh "$@"

# Make the key with which `aws-ssh --key` opens it
[group('aws')]
[no-exit-message]
aws-pem *ARGS: setup
    {{ run }} src/scripts/aws.py pem "$@"

# Write what `docker build` needs for an image of tasks on other machines
[group('aws')]
[no-exit-message]
task-image *ARGS: setup
    {{ run }} src/scripts/task_image.py "$@"

# Train on AWS Batch, each fold in a job of its own
[group('aws')]
[no-exit-message]
aws-train *ARGS: setup
    METAFLOW_PROFILE=production {{ run }} src/scripts/ask.py "trains on AWS Batch: ten jobs of some minutes each are billed" \
        src/scripts/upload.py src/pipelines/training.py run --with batch --with retry --parallel 6 "$@"

# Deploy to SageMaker from AWS Batch
[group('aws')]
[no-exit-message]
aws-deploy *ARGS: setup
    METAFLOW_PROFILE=production {{ run }} src/scripts/ask.py "{{ deploys }}" \
        src/scripts/upload.py src/pipelines/deployment.py {{ on_sagemaker }} \
        run --with batch --backend backend.Sagemaker "$@"

# Put the deployment flow onto Step Functions
[group('aws')]
[no-exit-message]
aws-deploy-sfn-create *ARGS: setup
    METAFLOW_PROFILE=production {{ run }} src/scripts/ask.py "makes a state machine; each of its runs deploys to SageMaker" \
        src/scripts/upload.py src/pipelines/deployment.py {{ on_sagemaker }} step-functions create "$@"

# Run it there
[group('aws')]
[no-exit-message]
aws-deploy-sfn-trigger *ARGS: setup
    METAFLOW_PROFILE=production {{ run }} src/scripts/ask.py "{{ deploys }}" \
        src/pipelines/deployment.py {{ on_sagemaker }} step-functions trigger --backend backend.Sagemaker "$@"

# Put the monitoring flow onto Step Functions, which run it every hour
[group('aws')]
[no-exit-message]
aws-monitor-sfn-create *ARGS: setup
    METAFLOW_PROFILE=production {{ run }} src/scripts/ask.py "makes a state machine that runs a job on AWS Batch every hour" \
        src/pipelines/monitoring.py {{ on_sagemaker }} step-functions create "$@"

# Deploy to SageMaker
[group('sagemaker')]
[no-exit-message]
sagemaker-deploy *ARGS: setup
    {{ run }} src/scripts/ask.py "{{ deploys }}" \
        src/pipelines/deployment.py {{ on_sagemaker }} run --backend backend.Sagemaker "$@"

# Send one sample request to the SageMaker endpoint
[group('sagemaker')]
[no-exit-message]
sagemaker-sample *ARGS: setup
    {{ run }} src/scripts/sample.py --config config/sagemaker.yml "$@"

# Send traffic to the SageMaker endpoint
[group('sagemaker')]
[no-exit-message]
sagemaker-traffic *ARGS: setup
    {{ run }} src/pipelines/traffic.py {{ on_sagemaker }} run --mode traffic "$@"

# Label what it captured
[group('sagemaker')]
[no-exit-message]
sagemaker-labels *ARGS: setup
    {{ run }} src/pipelines/traffic.py {{ on_sagemaker }} run --mode labels "$@"

# Judge what it captured
[group('sagemaker')]
[no-exit-message]
sagemaker-monitor *ARGS: setup
    {{ run }} src/scripts/monitor.py --config config/sagemaker.yml "$@"

# Serve the version before this one again on SageMaker
[group('sagemaker')]
[no-exit-message]
sagemaker-rollback *ARGS: setup
    {{ run }} src/scripts/rollback.py --config config/sagemaker.yml "$@"

# Show what the SageMaker endpoint serves
[group('sagemaker')]
[no-exit-message]
sagemaker-status *ARGS: setup
    {{ run }} src/scripts/sagemaker.py status "$@"

# Delete the SageMaker endpoint and its models; captures stay
[group('sagemaker')]
[no-exit-message]
sagemaker-delete *ARGS: setup
    {{ run }} src/scripts/sagemaker.py delete "$@"

# Start a local stand-in for AWS, and print the variables that lead to it
[group('sagemaker')]
[no-exit-message]
aws-rehearsal *ARGS: setup
    {{ run }} src/scripts/rehearsal/serve.py "$@"

# Run an aws or sagemaker recipe against the stand-in: `just rehearse all` for the whole circle
[group('sagemaker')]
[no-exit-message]
rehearse *ARGS: setup
    {{ run }} src/scripts/rehearsal/rehearse.py "$@"

# Index the documents for search
[group('agents')]
[no-exit-message]
index *ARGS: setup
    {{ run }} src/pipelines/indexing.py run "$@"

# Ask the documents: `just ask "How do I roll back a deployment?"`
[group('agents')]
[no-exit-message]
ask *ARGS: setup
    {{ run }} src/scripts/ask_agent.py "$@"

# Answer many questions, each with a card
[group('agents')]
[no-exit-message]
rag *ARGS: setup
    {{ run }} src/pipelines/rag.py run "$@"

# Talk to the agents in a browser, on http://127.0.0.1:8001
[group('agents')]
[no-exit-message]
agents *ARGS: setup
    {{ run }} src/scripts/serve_agents.py "$@"

# Let agents play Tic-Tac-Toe against each other
[group('agents')]
[no-exit-message]
tournament *ARGS: setup
    {{ run }} src/scripts/tournament.py "$@"

# Hold the agents to their evaluation sets
[group('agents')]
[no-exit-message]
evals *ARGS: setup
    {{ run }} src/scripts/evals.py "$@"

# Run the tests
[group('quality')]
test *ARGS: setup
    # side by side, as tests/conftest.py groups them; one more than cores, for they wait for servers
    # now and then. Each takes up to 2 GB of memory.
    {{ run }} pytest --numprocesses $(({{ num_cpus() }} + 1)) --maxprocesses 4 --dist loadscope --no-loadscope-reorder "$@"

# Measure into benchmarks/results: `just bench serving` for one of them
[group('quality')]
bench *PARTS: setup
    for part in {{ if PARTS == "" { "loop serving capture predict monitoring detection sagemaker retrieval" } else { PARTS } }}; do \
        {{ run }} benchmarks/$part.py || exit; \
    done

# Check format, style, types, import layers and uv.lock
[group('quality')]
lint: setup
    git cat-file -e :uv.lock
    ! git grep --cached --quiet --fixed-strings '://' -- uv.lock || \
        { echo 'lint: uv.lock is staged with download addresses: run `just setup` and `git add --renormalize uv.lock`' >&2; exit 1; }
    {{ run }} ruff format --check
    {{ run }} ruff check
    {{ run }} pyright
    {{ run }} lint-imports --no-logo
    {{ run }} cfn-lint cloud-formation/*.yaml
    # in an environment of its own, for it asks for other versions than the project does
    uv tool run --exclude-newer 2026-11-23T00:00:00Z checkov==3.3.30 --framework cloudformation \
        --directory cloud-formation --skip-download --compact --quiet
    uv tool run --exclude-newer 2026-11-23T00:00:00Z check-jsonschema==0.39.0 --quiet \
        --builtin-schema vendor.github-workflows .github/workflows/*.yml
    uv tool run --exclude-newer 2026-11-23T00:00:00Z zizmor==1.32.0 --offline --quiet .github/workflows

# Check what is staged, in seconds: format, style, secrets
[group('quality')]
[no-exit-message]
lint-staged:
    #!/bin/sh
    set -eu
    staged=$(mktemp -d)
    trap 'rm -rf "$staged"' EXIT
    # what will be committed, which may not be what the files hold now; and what makes packages of folders
    {
        git diff --cached --name-only --diff-filter=ACMR -z -- '*.py'
        git ls-files -z -- pyproject.toml '*__init__.py'
    } | git checkout-index --force --prefix="$staged/" -z --stdin
    ruff=$PWD/.venv/bin/ruff
    [ -x "$ruff" ] || { echo 'lint-staged: there is no ruff: run `just setup`' >&2; exit 1; }
    (cd "$staged" && "$ruff" format --no-cache --check --quiet && "$ruff" check --no-cache --quiet) ||
        { echo 'lint-staged: `just format` mends most of it; then `git add` the files again' >&2; exit 1; }
    # exit code 1: it could not look, without a network say; `just audit` and CI will
    {{ run }} src/scripts/audit.py staged --root . || [ $? = 1 ]

# Let git check what is committed (lint-staged) and pushed (lint, quick tests): `just hooks [--remove]`
[group('quality')]
[no-exit-message]
hooks *ARGS:
    #!/bin/sh
    set -eu
    now=$(git config --local core.hooksPath || true)
    case "${1-}" in
    '')
        if [ -n "$now" ] && [ "$now" != .githooks ]; then
            echo "hooks: git runs the hooks in $now already (core.hooksPath): unset that first" >&2
            exit 1
        fi
        git config --local core.hooksPath .githooks
        echo 'git runs the hooks in .githooks now; `just hooks --remove` ends it'
        ;;
    --remove)
        [ "$now" != .githooks ] || git config --local --unset core.hooksPath
        echo 'git does not run the hooks in .githooks'
        ;;
    *)
        echo 'Usage: just hooks [--remove]'
        [ "$1" = --help ]
        ;;
    esac

# Look for known vulnerabilities and for secrets: `just audit [packages|secrets]`
[group('quality')]
[no-exit-message]
audit *ARGS: setup
    {{ run }} src/scripts/audit.py "$@"

# Fix what can be fixed, and format
[group('quality')]
format *ARGS: setup
    {{ run }} ruff check --fix-only "$@"
    {{ run }} ruff format "$@"

# Check types
[group('quality')]
types *ARGS: setup
    {{ run }} pyright "$@"

# Build the guide, and show it on http://127.0.0.1:8002
[group('docs')]
[no-exit-message]
docs *ARGS: setup
    {{ run }} src/scripts/guide.py "$@"

# Write docs/reference from code and configuration
[group('docs')]
[no-exit-message]
reference *ARGS: setup
    {{ run }} src/scripts/guide_reference.py "$@"

# Make the guide's pictures from what the demo left (needs Chromium)
[group('docs')]
[no-exit-message]
pictures *ARGS: setup
    {{ run }} src/scripts/pictures.py "$@"
