//! Gateways from blueprints, on hand-written answers.
