"""The latency of networks on a target: timed, predicted from layer shapes, and solved for."""
