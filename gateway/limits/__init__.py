"""What a call may spend: limits that apply, reserved before the call and settled after it. Imports the store, keys and tokens."""
